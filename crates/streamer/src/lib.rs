//! The per-session program: compositor, encoder, transport, audio, input.

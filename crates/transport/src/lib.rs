//! A WebRTC session as a state machine over str0m: pacing, rate control, recovery.

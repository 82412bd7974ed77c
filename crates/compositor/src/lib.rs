//! Headless Wayland compositor and the Xvfb fallback behind one Source.

//! REST contract, node contract, agent<->streamer contract, typed ids.

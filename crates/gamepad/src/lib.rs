//! Virtual gamepads for games: uinput where the kernel has it, FUSE where it does not.

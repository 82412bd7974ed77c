//! One Encoder for video through libavcodec, software and hardware, and Opus for sound.

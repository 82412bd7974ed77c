//! Turns pixels into frames: the pool of pictures, the last one shown, and the sink.
//!
//! Shared by both kinds of display. Deliberately absent: when to emit (see [`crate::pacer`]) and where pixels come from.

use std::fmt;
use std::time::Instant;

use media::{ColorMatrix, Frame, InputMark, Picture, PicturePool, PooledPicture, Size};
use wire::{Cursor, PointerMode};

use crate::{SourceError, SourceSink};

pub(crate) struct Emitter {
    pub(crate) size: Size,
    matrix: ColorMatrix,
    pool: PicturePool,
    last: Option<(PooledPicture, Option<InputMark>)>,
    sink: Box<dyn SourceSink>,
    cursor: Cursor,
    pointer_mode: PointerMode,
    clipboard: String,
    failed: bool,
}

impl Emitter {
    pub(crate) fn new(size: Size, matrix: ColorMatrix, sink: Box<dyn SourceSink>) -> Emitter {
        Emitter {
            size,
            matrix,
            pool: PicturePool::default(),
            last: None,
            sink,
            cursor: Cursor::Named("default".to_owned()),
            pointer_mode: PointerMode::Absolute,
            clipboard: String::new(),
            failed: false,
        }
    }

    /// Emits the picture that `fill` makes; nothing when it fails.
    pub(crate) fn emit<E>(
        &mut self,
        committed: Instant,
        input: Option<InputMark>,
        fill: impl FnOnce(&mut Picture) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut picture = self.pool.take(self.size, self.matrix);
        fill(&mut picture)?;
        // The clone keeps the picture for `repeat` without a copy.
        self.last = Some((picture.clone(), input));
        self.sink.frame(Frame { picture, committed, captured: Instant::now(), input });
        Ok(())
    }

    /// Emits the last picture again, as if it had been committed now.
    pub(crate) fn repeat(&mut self, now: Instant) {
        if let Some((picture, input)) = &self.last {
            let frame = Frame { picture: picture.clone(), committed: now, captured: now, input: *input };
            self.sink.frame(frame);
        }
    }

    /// True when there is a picture of this size and matrix to repeat.
    pub(crate) fn has_shown(&self) -> bool {
        self.last.is_some()
    }

    /// True when there was a picture, which has to be made anew. Where there was none, black that nobody asked for would be taken for the
    /// game's first picture.
    #[must_use]
    pub(crate) fn resize(&mut self, size: Size) -> bool {
        self.size = size;
        self.sink.size(size);
        self.last.take().is_some()
    }

    /// As [`Emitter::resize`].
    #[must_use]
    pub(crate) fn set_matrix(&mut self, matrix: ColorMatrix) -> bool {
        self.matrix = matrix;
        self.last.take().is_some()
    }

    pub(crate) fn cursor(&mut self, cursor: Cursor) {
        if self.cursor != cursor {
            self.cursor = cursor.clone();
            self.sink.cursor(cursor);
        }
    }

    pub(crate) fn pointer_mode(&mut self, mode: PointerMode) {
        if self.pointer_mode != mode {
            self.pointer_mode = mode;
            self.sink.pointer_mode(mode);
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.pointer_mode == PointerMode::Locked
    }

    /// The player's clipboard: not echoed back to the player.
    pub(crate) fn remember_clipboard(&mut self, text: &str) {
        text.clone_into(&mut self.clipboard);
    }

    /// True when the text is news.
    pub(crate) fn clipboard(&mut self, text: &str) -> bool {
        let news = self.clipboard != text;
        if news {
            text.clone_into(&mut self.clipboard);
            self.sink.clipboard(text.to_owned());
        }
        news
    }

    pub(crate) fn failed(&mut self, error: SourceError) {
        if !std::mem::replace(&mut self.failed, true) {
            self.sink.failed(error);
        }
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("size", &self.size).field("matrix", &self.matrix).finish_non_exhaustive()
    }
}

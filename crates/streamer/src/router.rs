//! Does at once, on the net thread, what the client's messages ask for: input reaches the display with no queue in between.
//!
//! Deliberately absent: what is stale or too much (see [`crate::input`]), and everything that may wait (the main thread's).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use compositor::Source;
use media::{InputMark, Size};
use wire::{ClientMessage, FrameMark, PROTOCOL_VERSION, ServerMessage};

use crate::input::{Action, InputState, Refusal};
use crate::ledger::{Ledger, hundred_us};
use crate::pads::Pads;
use crate::phase::DisplayPhase;
use crate::run::Event;
use crate::video::Video;

/// Everything that a message can act on.
pub(crate) struct Router {
    pub(crate) source: Arc<Source>,
    pub(crate) pads: Pads,
    pub(crate) video: Video,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) hub: SyncSender<Event>,
    /// Zero of the streamer's clock on the wire.
    pub(crate) zero: Instant,
    state: InputState,
    phase: DisplayPhase,
    connected_pads: BTreeSet<u8>,
}

impl Router {
    pub(crate) fn new(
        source: Arc<Source>,
        pads: Pads,
        video: Video,
        ledger: Arc<Ledger>,
        hub: SyncSender<Event>,
        zero: Instant,
    ) -> Router {
        let (state, phase) = (InputState::new(), DisplayPhase::default());
        Router { source, pads, video, ledger, hub, zero, state, phase, connected_pads: BTreeSet::new() }
    }

    /// A new connection: its sequence numbers and totals start anew, and nothing stays pressed.
    pub(crate) fn connected(&mut self) {
        self.state = InputState::new();
        self.phase = DisplayPhase::default();
        self.ledger.input(Instant::now());
        self.release();
    }

    /// The player is gone: nothing stays pressed.
    pub(crate) fn release(&mut self) {
        let mark = InputMark { sequence: 0, delivered: Instant::now() };
        self.source.input(compositor::InputEvent::ReleaseAll, mark);
        for slot in std::mem::take(&mut self.connected_pads) {
            self.pads.disconnect(slot);
        }
    }

    /// Takes a message; the answer, when there is one, goes back on the channel that it came from.
    pub(crate) fn message(&mut self, bytes: &[u8], now: Instant) -> Option<ServerMessage> {
        let message = match ClientMessage::decode(bytes) {
            Ok(message) => message,
            Err(error) => return Some(ServerMessage::Complaint { text: error.to_string() }),
        };
        match self.state.accept(message, now) {
            Ok(actions) => actions.into_iter().fold(None, |answer, action| self.act(action, now).or(answer)),
            Err(Refusal::TooMany { first: false } | Refusal::TooMuchText { first: false }) => None,
            Err(refusal) => Some(ServerMessage::Complaint { text: refusal.to_string() }),
        }
    }

    fn act(&mut self, action: Action, now: Instant) -> Option<ServerMessage> {
        match action {
            Action::Display(event, sequence) => {
                self.ledger.input(now);
                self.source.input(event, InputMark { sequence, delivered: now });
            }
            Action::PadConnect(slot) => {
                self.connected_pads.insert(slot);
                self.pads.connect(slot);
            }
            Action::PadDisconnect(slot) => {
                self.connected_pads.remove(&slot);
                self.pads.disconnect(slot);
            }
            Action::Pad(slot, state) => {
                // Plugs it in, when the connection was interrupted meanwhile.
                self.connected_pads.insert(slot);
                self.ledger.input(now);
                self.pads.update(slot, &state);
            }
            Action::Hello(version) if version != PROTOCOL_VERSION => {
                let text =
                    format!("this streamer speaks version {PROTOCOL_VERSION}, the client {version}: update the client");
                return Some(ServerMessage::Complaint { text });
            }
            Action::Hello(_) => self.tell(Event::Hello),
            Action::Clipboard(text) => self.source.set_clipboard(text),
            Action::Resize(width, height) => {
                if let Ok(size) = Size::new(u32::from(width), u32::from(height)) {
                    self.tell(Event::Resize(size));
                }
            }
            Action::Ping(client_time_us) => {
                return Some(ServerMessage::Pong { client_time_us, server_time_us: self.clock_us(now) });
            }
            Action::Report(report) => {
                self.ledger.report(report);
                let correction = self.phase.report(&report);
                if let Some(microseconds) = correction.shift_us {
                    self.source.shift_beat(microseconds);
                }
                if correction.leave_one_out {
                    self.source.leave_one_out();
                }
            }
            Action::RequestKeyFrame => self.video.request_key(),
        }
        None
    }

    /// To the main thread; dropped when it is hopelessly behind, which its next statistics show.
    fn tell(&self, event: Event) {
        if self.hub.try_send(event).is_err() {
            tracing::warn!("the main thread is behind: an event was dropped");
        }
    }

    /// The streamer's clock on the wire.
    fn clock_us(&self, at: Instant) -> u32 {
        // Wrapping is part of the format.
        at.saturating_duration_since(self.zero).as_micros() as u32
    }

    /// What the player is told about a frame that just left.
    pub(crate) fn mark(&self, sent: &SentFrame) -> ServerMessage {
        let input_to_commit =
            sent.input.map(|input| sent.committed.saturating_duration_since(input.delivered)).unwrap_or_default();
        ServerMessage::FrameMark(FrameMark {
            rtp_timestamp: sent.rtp_timestamp,
            input_sequence: sent.input.map_or(0, |input| input.sequence),
            committed_us: self.clock_us(sent.committed),
            input_to_commit_100us: hundred_us(input_to_commit),
            capture_100us: hundred_us(sent.captured.saturating_duration_since(sent.committed)),
            encode_100us: hundred_us(sent.encoded.saturating_duration_since(sent.captured)),
        })
    }
}

/// A frame that left.
pub(crate) struct SentFrame {
    pub(crate) rtp_timestamp: u32,
    pub(crate) committed: Instant,
    pub(crate) captured: Instant,
    pub(crate) encoded: Instant,
    pub(crate) input: Option<InputMark>,
}

//! What the display, the encoder and the network report, carried to where it belongs. Each runs on its reporter's thread.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use compositor::{SourceError, SourceSink};
use encode::OpenError;
use media::{EncodedUnit, Frame, Size};
use transport::{Channel, PeerEvent};
use wire::{Cursor, PointerMode, ServerMessage};

use crate::net::{NetEvent, NetHandle, NetSink, PeerNumber};
use crate::router::{Router, SentFrame};
use crate::run::Event;
use crate::video::{Video, VideoSink};

fn tell(hub: &SyncSender<Event>, event: Event) {
    if let Err(TrySendError::Full(event)) = hub.try_send(event) {
        tracing::warn!(?event, "the main thread is behind: an event was dropped");
    }
}

/// From the display.
pub(crate) struct FrameOut {
    pub(crate) video: Video,
    pub(crate) hub: SyncSender<Event>,
    pub(crate) seen: bool,
}

impl SourceSink for FrameOut {
    fn frame(&mut self, frame: Frame) {
        self.video.frame(frame);
        if !self.seen {
            self.seen = true;
            tell(&self.hub, Event::FirstFrame);
        }
    }

    fn cursor(&mut self, cursor: Cursor) {
        tell(&self.hub, Event::Cursor(cursor));
    }

    fn pointer_mode(&mut self, mode: PointerMode) {
        tell(&self.hub, Event::PointerMode(mode));
    }

    fn clipboard(&mut self, text: String) {
        tell(&self.hub, Event::Clipboard(text));
    }

    fn size(&mut self, size: Size) {
        tell(&self.hub, Event::SizeChanged(size));
    }

    fn failed(&mut self, error: SourceError) {
        tell(&self.hub, Event::SourceFailed(error));
    }
}

/// From the encoder.
pub(crate) struct UnitOut {
    pub(crate) net: Arc<OnceLock<NetHandle>>,
    pub(crate) hub: SyncSender<Event>,
}

impl VideoSink for UnitOut {
    fn unit(&mut self, unit: EncodedUnit) -> bool {
        self.net.get().is_some_and(|net| net.video(unit).is_ok())
    }

    fn ready(&self) -> bool {
        self.net.get().is_some_and(NetHandle::takes_frame)
    }

    fn opened(&mut self, name: &str) {
        tell(&self.hub, Event::EncoderOpened(name.to_owned()));
    }

    fn failed(&mut self, error: OpenError) {
        tell(&self.hub, Event::EncoderFailed(error));
    }
}

/// From the network.
pub(crate) struct PeerOut {
    pub(crate) router: Router,
    pub(crate) net: Arc<OnceLock<NetHandle>>,
    pub(crate) hub: SyncSender<Event>,
    /// The peer that input was last taken from.
    pub(crate) current: Option<PeerNumber>,
}

impl PeerOut {
    fn send(&self, channel: Channel, message: &ServerMessage) {
        let Some(net) = self.net.get() else { return };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        if net.send(channel, bytes).is_err() {
            tracing::debug!("the network is behind: a message was dropped");
        }
    }

    fn peer(&mut self, peer: PeerNumber, event: PeerEvent) {
        match event {
            PeerEvent::Connected => {
                if self.current != Some(peer) {
                    self.current = Some(peer);
                    self.router.connected();
                }
                tell(&self.hub, Event::Connected);
            }
            PeerEvent::Data { channel, bytes } => {
                if let Some(answer) = self.router.message(&bytes, Instant::now()) {
                    self.send(channel, &answer);
                }
            }
            PeerEvent::KeyFrameWanted => self.router.video.request_key(),
            PeerEvent::TargetBitrate(target) => {
                self.router.video.set_bitrate(target);
                self.router.ledger.target(target);
            }
            PeerEvent::Statistics(path) => {
                self.router.ledger.path(path.round_trip.unwrap_or_default(), path.loss, path.resent);
            }
            PeerEvent::Disconnected | PeerEvent::Closed(_) => {
                // A peer that never took the place of another one leaves nothing behind.
                if self.current == Some(peer) {
                    self.router.release();
                    tell(&self.hub, Event::Lost);
                }
            }
            PeerEvent::ChannelOpen(_) => {}
        }
    }
}

impl NetSink for PeerOut {
    fn event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Peer { peer, event } => self.peer(peer, event),
            NetEvent::FrameSent { rtp_timestamp, committed, captured, encoded, input, bytes, .. } => {
                self.router.ledger.sent(bytes, encoded.saturating_duration_since(captured));
                let mark = self.router.mark(&SentFrame { rtp_timestamp, committed, captured, encoded, input });
                self.send(Channel::Motion, &mark);
            }
        }
    }
}

//! Reads a player's SDP offer (RFC 8829) before anything else does: refuses what can not work with a sentence that says why, and
//! strips what a session of ours never uses.
//!
//! Total and bounded: any text gives an [`Offer`] or an [`OfferError`].

/// Longest offer in bytes. Browsers make 5 to 10 kB; what is much longer is not an offer.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;

/// Most media sections. Ours have three; a few rejected ones more are harmless.
const MAX_SECTIONS: usize = 8;

/// Why an offer can not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Longer than [`MAX_OFFER_BYTES`]. Send the browser's own offer.
    #[error("the offer is {bytes} bytes long, but at most {MAX_OFFER_BYTES} are accepted")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The text is not SDP. Send `RTCPeerConnection.localDescription.sdp` as it is.
    #[error("the offer is not SDP: {0}")]
    NotSdp(String),
    /// No `m=video` section. Add a `recvonly` video transceiver.
    #[error("the offer has no video section: add a video transceiver with direction recvonly")]
    NoVideo,
    /// The video section does not receive. Its direction has to be `recvonly` or `sendrecv`.
    #[error("the offer's video section does not receive: its direction must be recvonly")]
    VideoNotReceived,
    /// More sections of one kind than a session sends.
    #[error("the offer has {count} {kind} sections, but a session sends one")]
    TooMany {
        /// `video`, `audio` or `application`.
        kind: &'static str,
        /// How many.
        count: usize,
    },
    /// Sound or pictures where none are sent. Offer a data channel alone.
    #[error("the offer has a section of {0}, but an echo has a data channel alone")]
    MediaUnwanted(&'static str),
    /// No data channel. Create the data channels before the offer.
    #[error("the offer has no data channel: create the data channels before the offer")]
    NoDataChannel,
    /// The media sections do not share one transport. Use `bundlePolicy: "max-bundle"` or the default.
    #[error("the offer does not bundle all of its sections (a=group:BUNDLE)")]
    NotBundled,
    /// No certificate fingerprint: the connection could not be encrypted.
    #[error("the offer has no certificate fingerprint (a=fingerprint)")]
    NoFingerprint,
    /// A section has no identification tag, so the bundle can not name it.
    #[error("the offer's {0} section has no identification tag (a=mid)")]
    NoMid(&'static str),
    /// No ICE credentials.
    #[error("the offer has no ICE credentials (a=ice-ufrag, a=ice-pwd)")]
    NoIceCredentials,
    /// Browser and streamer share no video codec.
    #[error("no common video codec: the player decodes {offered}, the streamer sends {sendable}")]
    NoCommonCodec {
        /// What the player offers.
        offered: String,
        /// What the streamer can send.
        sendable: String,
    },
    /// The WebRTC engine refused it.
    #[error("the offer was refused: {0}")]
    Refused(String),
}

/// An offer that passed the checks.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The SDP without the player's addresses, sources and stream names.
    pub(crate) sdp: String,
    /// Identification tag (RFC 5888) of the video section.
    pub(crate) video_mid: String,
    /// The same of the audio section, when there is one.
    pub(crate) audio_mid: Option<String>,
    /// The video formats offered, for people.
    pub(crate) video_formats: String,
}

#[derive(Default)]
struct Scan {
    video: usize,
    audio: usize,
    application: usize,
    sections: usize,
    bundle: bool,
    fingerprint: bool,
    ufrag: bool,
    pwd: bool,
    video_mid: Option<String>,
    audio_mid: Option<String>,
    video_direction: Option<bool>,
    session_direction: Option<bool>,
    /// Payload type and codec.
    formats: Vec<(String, String)>,
    /// Payload type and what tells its variants apart. May come before or after the codec.
    parameters: Vec<(String, String)>,
}

impl Offer {
    /// Reads `text`.
    ///
    /// # Errors
    /// [`OfferError`], never `NoCommonCodec` or `Refused`.
    pub(crate) fn parse(text: &str) -> Result<Offer, OfferError> {
        let (scan, sdp) = Scan::read(text)?;
        scan.check()?;
        let video_formats = scan.formats();
        let video_mid = scan.video_mid.ok_or(OfferError::NoMid("video"))?;
        if scan.audio > 0 && scan.audio_mid.is_none() {
            return Err(OfferError::NoMid("audio"));
        }
        Ok(Offer { sdp, video_mid, audio_mid: scan.audio_mid, video_formats })
    }
}

/// The SDP of an offer of a data channel and of nothing else, without the player's addresses.
///
/// # Errors
/// [`OfferError`], never of video.
pub(crate) fn data_alone(text: &str) -> Result<String, OfferError> {
    let (scan, sdp) = Scan::read(text)?;
    for (kind, count) in [("video", scan.video), ("audio", scan.audio)] {
        if count > 0 {
            return Err(OfferError::MediaUnwanted(kind));
        }
    }
    if scan.application > 1 {
        return Err(OfferError::TooMany { kind: "application", count: scan.application });
    }
    scan.check_transport()?;
    Ok(sdp)
}

/// The line as the engine shall see it, `None` when it shall not.
fn keep<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    // The player's addresses: an ICE-lite side sends no checks, it learns the address from the player's.
    // Sources and streams: the player sends nothing, and a stream name echoed on both sections would tie sound to picture.
    const DROPPED: [&str; 9] = [
        "a=candidate:",
        "a=remote-candidates:",
        "a=end-of-candidates",
        "a=ssrc:",
        "a=ssrc-group:",
        "a=msid:",
        "a=simulcast:",
        "a=rid:",
        "a=rtcp:",
    ];
    if DROPPED.iter().any(|prefix| line.starts_with(prefix)) {
        None
    } else if line == "a=sendrecv" && (kind == "video" || kind == "audio") {
        Some("a=recvonly")
    } else {
        Some(line)
    }
}

impl Scan {
    /// What the text has, and what of it the engine shall see.
    fn read(text: &str) -> Result<(Scan, String), OfferError> {
        if text.len() > MAX_OFFER_BYTES {
            return Err(OfferError::TooLarge { bytes: text.len() });
        }
        let mut scan = Scan::default();
        let mut sdp = String::with_capacity(text.len() + 16);
        let mut kind = "";
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            if index == 0 && line != "v=0" {
                return Err(OfferError::NotSdp("it does not begin with v=0".into()));
            }
            if line.len() < 2 || !line.is_char_boundary(2) || line.as_bytes()[1] != b'=' {
                return Err(OfferError::NotSdp(format!("line {} is not of the form x=...", index + 1)));
            }
            if let Some(media) = line.strip_prefix("m=") {
                kind = scan.section(media, index)?;
            }
            scan.line(line, kind);
            if let Some(kept) = keep(line, kind) {
                sdp.push_str(kept);
                sdp.push_str("\r\n");
            }
        }
        if sdp.is_empty() {
            return Err(OfferError::NotSdp("it is empty".into()));
        }
        Ok((scan, sdp))
    }

    fn section(&mut self, media: &str, index: usize) -> Result<&'static str, OfferError> {
        self.sections += 1;
        if self.sections > MAX_SECTIONS {
            return Err(OfferError::NotSdp(format!("it has more than {MAX_SECTIONS} media sections")));
        }
        match media.split(' ').next() {
            Some("video") => {
                self.video += 1;
                Ok("video")
            }
            Some("audio") => {
                self.audio += 1;
                Ok("audio")
            }
            Some("application") => {
                self.application += 1;
                Ok("application")
            }
            _ => Err(OfferError::NotSdp(format!("line {} has an unknown kind of media", index + 1))),
        }
    }

    fn line(&mut self, line: &str, kind: &str) {
        let Some(attribute) = line.strip_prefix("a=") else { return };
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "group" => self.bundle |= value.starts_with("BUNDLE"),
            "fingerprint" => self.fingerprint = true,
            "ice-ufrag" => self.ufrag = true,
            "ice-pwd" => self.pwd = true,
            "mid" => match kind {
                "video" => self.video_mid = Some(value.to_owned()),
                "audio" => self.audio_mid = Some(value.to_owned()),
                _ => {}
            },
            "recvonly" | "sendrecv" | "sendonly" | "inactive" => {
                let receives = Some(name == "recvonly" || name == "sendrecv");
                match kind {
                    "video" => self.video_direction = receives,
                    "" => self.session_direction = receives,
                    _ => {}
                }
            }
            "rtpmap" if kind == "video" => {
                if let Some((payload, format)) = value.split_once(' ') {
                    let codec = format.split('/').next().unwrap_or(format);
                    self.formats.push((payload.to_owned(), codec.to_owned()));
                }
            }
            "fmtp" if kind == "video" => {
                let Some((payload, parameters)) = value.split_once(' ') else { return };
                let wanted = |part: &&str| part.starts_with("profile") || part.starts_with("packetization-mode");
                for part in parameters.split(';').map(str::trim).filter(wanted) {
                    self.parameters.push((payload.to_owned(), part.to_owned()));
                }
            }
            _ => {}
        }
    }

    fn check(&self) -> Result<(), OfferError> {
        for (kind, count) in [("video", self.video), ("audio", self.audio), ("application", self.application)] {
            if count > 1 {
                return Err(OfferError::TooMany { kind, count });
            }
        }
        if self.video == 0 {
            return Err(OfferError::NoVideo);
        }
        if self.video_direction.or(self.session_direction) == Some(false) {
            return Err(OfferError::VideoNotReceived);
        }
        self.check_transport()
    }

    /// What any connection with a data channel needs.
    fn check_transport(&self) -> Result<(), OfferError> {
        if self.application == 0 {
            return Err(OfferError::NoDataChannel);
        }
        if !self.bundle {
            return Err(OfferError::NotBundled);
        }
        if !self.fingerprint {
            return Err(OfferError::NoFingerprint);
        }
        if !self.ufrag || !self.pwd {
            return Err(OfferError::NoIceCredentials);
        }
        Ok(())
    }

    /// The video formats for a person, without the ones that carry no picture, at most 400 bytes.
    fn formats(&self) -> String {
        let mut text = String::new();
        for (payload, codec) in &self.formats {
            if ["rtx", "red", "ulpfec", "flexfec-03"].contains(&codec.as_str()) || text.len() > 400 {
                continue;
            }
            let parameters = self.parameters.iter().filter(|(of, _)| of == payload).map(|(_, value)| value.as_str());
            let words: Vec<&str> = std::iter::once(codec.as_str()).chain(parameters).collect();
            let format = words.join(" ");
            let printable: String = format.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect();
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&printable);
        }
        if text.is_empty() { "nothing".into() } else { text }
    }
}

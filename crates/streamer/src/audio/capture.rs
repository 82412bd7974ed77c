//! A recording client of PulseAudio's protocol: one stream of 10 ms fragments from the sink's monitor.

use std::ffi::CString;
use std::io::{BufReader, Cursor, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use media::PcmBlock;
use pulseaudio::protocol::{
    self, AuthParams, AuthReply, ChannelMap, Command, CommandReply, CreateRecordStreamReply, Prop, Props,
    ProtocolError, RecordStreamParams, SampleFormat, SampleSpec, SetClientNameReply,
    stream::{BufferAttr, StreamFlags},
};

use super::blocks::BYTES_PER_BLOCK;
use super::server::MONITOR;

/// Longest message that is accepted, in bytes. PulseAudio sends fragments of 2 kB; more is a broken server.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// Length of the cookie that the protocol wants even from clients that need none.
const COOKIE_LENGTH: usize = 256;

/// How far the server may be ahead of us, in blocks. Too few lose sound when this thread is late; too many let a stall become
/// a lasting delay.
const SERVER_BUFFER_BLOCKS: u32 = 10;

/// How long the server may take to answer a request.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// A stream that is recorded.
#[derive(Debug)]
pub(super) struct Capture {
    reader: BufReader<UnixStream>,
    channel: u32,
    version: u16,
}

impl Capture {
    /// Asks the server on this connection to record its monitor.
    pub(super) fn start(stream: UnixStream) -> Result<Capture, ProtocolError> {
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        let mut capture = Capture { reader: BufReader::new(stream), channel: 0, version: protocol::MAX_VERSION };
        let authentication = AuthParams {
            version: protocol::MAX_VERSION,
            supports_shm: false,
            supports_memfd: false,
            cookie: vec![0; COOKIE_LENGTH],
        };
        let reply: AuthReply = capture.request(&Command::Auth(authentication), 0)?;
        capture.version = reply.version.min(protocol::MAX_VERSION);
        let mut properties = Props::new();
        properties.set(Prop::ApplicationName, c"kite");
        let _: SetClientNameReply = capture.request(&Command::SetClientName(properties), 1)?;
        let reply: CreateRecordStreamReply = capture.request(&Command::CreateRecordStream(parameters()?), 2)?;
        capture.channel = reply.channel;
        // From here on there may be nothing to read for as long as the game is silent.
        capture.reader.get_ref().set_read_timeout(None)?;
        Ok(capture)
    }

    fn request<T: CommandReply>(&mut self, command: &Command, sequence: u32) -> Result<T, ProtocolError> {
        protocol::write_command_message(self.reader.get_mut(), sequence, command, self.version)?;
        let (answered, reply) = protocol::read_reply_message(&mut self.reader, self.version)?;
        if answered == sequence { Ok(reply) } else { Err(ProtocolError::Invalid(format!("an answer to {answered}"))) }
    }

    /// Waits for captured bytes and puts them into `bytes`.
    ///
    /// An error means that the stream is over: the server ended, the connection was shut down, or the game, which may do
    /// so, had the server drop us.
    pub(super) fn read(&mut self, bytes: &mut Vec<u8>) -> Result<(), ProtocolError> {
        loop {
            let descriptor = protocol::read_descriptor(&mut self.reader)?;
            let length = descriptor.length as usize;
            if length > LONGEST_MESSAGE {
                return Err(ProtocolError::Invalid(format!("a message of {length} bytes")));
            }
            bytes.resize(length, 0);
            self.reader.read_exact(bytes)?;
            if descriptor.channel == self.channel {
                return Ok(());
            }
            if descriptor.channel == u32::MAX {
                self.check_command(bytes)?;
            }
        }
    }

    fn check_command(&self, bytes: &[u8]) -> Result<(), ProtocolError> {
        // Commands that this protocol implementation does not know are none that end the stream.
        match Command::read_tag_prefixed(&mut Cursor::new(bytes), self.version) {
            Ok((_, Command::RecordStreamKilled(_))) => Err(ProtocolError::Invalid("the stream was ended".to_owned())),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn parameters() -> Result<RecordStreamParams, ProtocolError> {
    let monitor = CString::new(MONITOR).map_err(|error| ProtocolError::Invalid(error.to_string()))?;
    Ok(RecordStreamParams {
        sample_spec: SampleSpec {
            format: SampleFormat::S16Le,
            channels: PcmBlock::CHANNELS as u8,
            sample_rate: PcmBlock::SAMPLE_RATE,
        },
        channel_map: ChannelMap::stereo(),
        source_name: Some(monitor),
        buffer_attr: BufferAttr {
            max_length: SERVER_BUFFER_BLOCKS * BYTES_PER_BLOCK as u32,
            fragment_size: BYTES_PER_BLOCK as u32,
            ..BufferAttr::default()
        },
        flags: StreamFlags {
            // The whole sink then works in steps of a fragment, whatever the game asked for.
            adjust_latency: true,
            // Recording must not keep the sink awake.
            no_inhibit_auto_suspend: true,
            no_move: true,
            ..StreamFlags::default()
        },
        ..RecordStreamParams::default()
    })
}

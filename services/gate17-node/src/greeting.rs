//! What HTTP/2 says first. A visitor is greeted as by the commonest web server; what this node can do beyond that it says
//! when somebody was admitted. So frames of settings are changed on their way out, until there are no more of them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A visitor's window of a stream, as it is told.
pub const VISITORS_WINDOW: u32 = 65_536;
/// That of a connection: all there is.
pub const CONNECTIONS_WINDOW: u32 = (1 << 31) - 1;
const VISITORS_STREAMS: u32 = 128;
const VISITORS_FRAME: u32 = (1 << 24) - 1;

/// What a client says before its first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const MAX_STREAMS: u16 = 3;
const INITIAL_WINDOW: u16 = 4;
const MAX_FRAME: u16 = 5;
const MAX_HEADERS: u16 = 6;
const CONNECT_PROTOCOL: u16 = 8;

/// What is said to whom is admitted.
#[derive(Clone, Copy, Debug)]
pub struct Able {
    /// Streams at once.
    pub streams: u32,
    /// Octets of a stream's window.
    pub window: u32,
    /// Octets of a frame.
    pub frame: u32,
    /// Octets of headers.
    pub headers: u32,
}

/// A connection of which the first frames are others than were written.
#[derive(Debug)]
pub struct Greeting<I> {
    io: I,
    able: Able,
    /// Everybody may know that there are datagrams.
    is_open: bool,
    stage: Stage,
    /// Of a frame whose head is not complete.
    head: BytesMut,
    /// Octets of the frame that is being written, and whether they are passed on.
    left: usize,
    passes: bool,
    /// The connection's window was told with the greeting; that frame is not to go out again.
    is_window_told: bool,
    /// Octets of the client's preface that were read.
    read: usize,
    /// Who waits for more than that.
    reader: Option<Waker>,
    /// On its way.
    out: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    First,
    Greeted,
    Done,
}

impl<I> Greeting<I> {
    /// `is_open`: nothing is hidden from anybody.
    pub fn new(io: I, able: Able, is_open: bool) -> Self {
        Self {
            io,
            able,
            is_open,
            stage: Stage::First,
            head: BytesMut::new(),
            left: 0,
            passes: true,
            is_window_told: false,
            read: 0,
            reader: None,
            out: BytesMut::new(),
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self.stage, Stage::Done) && self.left == 0 && self.head.is_empty()
    }

    /// Octets of frames, from any place in them on.
    fn take(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.left > 0 {
                let (now, rest) = octets.split_at(self.left.min(octets.len()));
                if self.passes {
                    self.out.extend_from_slice(now);
                }
                self.left -= now.len();
                octets = rest;
                continue;
            }
            let (now, rest) = octets.split_at((HEAD - self.head.len()).min(octets.len()));
            self.head.extend_from_slice(now);
            octets = rest;
            if self.head.len() == HEAD {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let mut head = self.head.clone();
        self.left = usize::try_from(head.get_uint(3)).unwrap_or_default();
        let (kind, flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32());
        self.passes = true;
        match (kind, self.stage) {
            (SETTINGS, Stage::First) => {
                self.passes = false;
                self.stage = Stage::Greeted;
                self.greet();
            }
            (SETTINGS, Stage::Greeted) if flags & ACK == 0 => {
                self.passes = false;
                self.stage = Stage::Done;
                self.say_all();
            }
            // that one went out with the greeting
            (WINDOW_UPDATE, Stage::Greeted) if stream == 0 && !self.is_window_told => {
                self.passes = false;
                self.is_window_told = true;
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
            }
            _ => {}
        }
        if self.passes {
            self.out.extend_from_slice(&self.head);
        }
        self.head.clear();
    }

    fn greet(&mut self) {
        let mut said = vec![
            (MAX_STREAMS, VISITORS_STREAMS),
            (INITIAL_WINDOW, VISITORS_WINDOW),
            (MAX_FRAME, VISITORS_FRAME),
        ];
        if self.is_open {
            said.push((CONNECT_PROTOCOL, 1));
        }
        settings(&said, &mut self.out);
        self.out.put_uint(4, 3);
        self.out.put_u8(WINDOW_UPDATE);
        self.out.put_u8(0);
        self.out.put_u32(0);
        // RFC 9113, section 6.9.2: what a connection begins with
        self.out.put_u32(CONNECTIONS_WINDOW - 65_535);
    }

    fn say_all(&mut self) {
        let said = [
            (MAX_STREAMS, self.able.streams),
            (INITIAL_WINDOW, self.able.window),
            (MAX_FRAME, self.able.frame),
            (MAX_HEADERS, self.able.headers),
            (CONNECT_PROTOCOL, 1),
        ];
        settings(&said, &mut self.out);
    }
}

fn settings(said: &[(u16, u32)], out: &mut BytesMut) {
    out.put_uint(6 * said.len() as u64, 3);
    out.put_u8(SETTINGS);
    out.put_u8(0);
    out.put_u32(0);
    for (name, value) in said {
        out.put_u16(*name);
        out.put_u32(*value);
    }
}

impl<I: AsyncWrite + Unpin> Greeting<I> {
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(context, &self.out))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
        }
        if self.is_plain() {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeting<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_window_told {
            return Pin::new(&mut self.io).poll_read(context, into);
        }
        // The client knows the connection's window by the greeting; h2 counts by it only when it has said so itself. Frames of before
        // would be too much: a client that uploads at once would be sent away.
        if self.read >= PREFACE {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut preface = [0; PREFACE];
        let most = (PREFACE - self.read).min(into.remaining());
        let mut part = ReadBuf::new(preface.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut self.io).poll_read(context, &mut part))?;
        self.read += part.filled().len();
        into.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeting<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(context))?;
        if self.is_plain() {
            return Pin::new(&mut self.io).poll_write_vectored(context, octets);
        }
        let mut count = 0;
        for slice in octets {
            self.take(slice);
            count += slice.len();
        }
        // what cannot go now goes before the next, or when all is to
        match self.poll_out(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABLE: Able = Able {
        streams: 256,
        window: 4 << 20,
        frame: 256 << 10,
        headers: 16 << 10,
    };

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut octets = BytesMut::new();
        octets.put_uint(payload.len() as u64, 3);
        octets.put_u8(kind);
        octets.put_u8(flags);
        octets.put_u32(stream);
        octets.put_slice(payload);
        octets.to_vec()
    }

    fn written(pieces: usize, is_open: bool) -> Vec<u8> {
        let all = [
            frame(SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 1]),
            frame(SETTINGS, ACK, 0, &[]),
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]),
            frame(1, 4, 1, b"head"),
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0x40, 0, 0]),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            frame(0, 1, 1, b"data"),
        ]
        .concat();
        let mut greeting = Greeting::new((), ABLE, is_open);
        for piece in all.chunks(pieces) {
            if greeting.is_plain() {
                greeting.out.extend_from_slice(piece);
            } else {
                greeting.take(piece);
            }
        }
        greeting.out.to_vec()
    }

    /// What is read at once; None: nothing yet.
    fn read(greeting: &mut Greeting<&[u8]>) -> Option<Vec<u8>> {
        let (mut octets, mut context) = ([0; 100], Context::from_waker(Waker::noop()));
        let mut into = ReadBuf::new(&mut octets);
        match Pin::new(greeting).poll_read(&mut context, &mut into) {
            Poll::Ready(read) => read.map(|()| into.filled().to_vec()).ok(),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_clients_frames_wait_for_the_window_that_they_are_counted_by() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let said = [&preface[..], b"frames"].concat();
        let mut greeting = Greeting::new(said.as_slice(), ABLE, false);
        greeting.take(&frame(SETTINGS, 0, 0, &[]));
        assert_eq!(read(&mut greeting).unwrap(), preface);
        assert_eq!(read(&mut greeting), None);
        greeting.take(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]));
        assert_eq!(read(&mut greeting).unwrap(), b"frames");
    }

    #[test]
    fn a_visitor_is_greeted_as_elsewhere_and_a_member_is_told_all() {
        let greeting = [0, 3, 0, 0, 0, 128, 0, 4, 0, 1, 0, 0, 0, 5, 0, 0xff, 0xff, 0xff];
        let all = [
            0, 3, 0, 0, 1, 0, 0, 4, 0, 0x40, 0, 0, 0, 5, 0, 4, 0, 0, 0, 6, 0, 0, 0x40, 0, 0, 8, 0, 0, 0, 1,
        ];
        let wanted = [
            frame(SETTINGS, 0, 0, &greeting),
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]),
            frame(SETTINGS, ACK, 0, &[]),
            frame(1, 4, 1, b"head"),
            frame(SETTINGS, 0, 0, &all),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            frame(0, 1, 1, b"data"),
        ]
        .concat();
        for pieces in [1, 2, 7, 1000] {
            assert_eq!(written(pieces, false), wanted, "{pieces}");
        }
        let open = written(5, true);
        assert_eq!(&open[27..33], &[0, 8, 0, 0, 0, 1]);
    }
}

//! Carries octets between a program's connection and its stream, both ways, as they are: an end is passed on as an end, a
//! break as a break.

use std::{io, time::Duration};

use daemon::status::Counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// What is read at once; grows to the greater one while it is filled, so that idle streams cost little.
const SMALL: usize = 16 << 10;
const GREAT: usize = 256 << 10;
/// Octets of a stream that was cut off are not waited for when the program's connection is reset.
const AT_ONCE: Duration = Duration::ZERO;

/// Octets carried, over all streams.
#[derive(Clone, Debug)]
pub struct Carried {
    /// From programs.
    pub sent: Counter,
    /// To programs.
    pub received: Counter,
}

/// Until both sides have ended, or one broke. The program learns of a break: its connection is reset.
pub async fn splice<S>(program: TcpStream, stream: S, carried: &Carried)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let mut program = program;
    let broken = {
        let (mut from_program, mut to_program) = program.split();
        let (mut from_stream, mut to_stream) = tokio::io::split(stream);
        let out = copy(&mut from_program, &mut to_stream, &carried.sent);
        let back = copy(&mut from_stream, &mut to_program, &carried.received);
        tokio::try_join!(out, back).is_err()
    };
    if broken {
        reset(program);
    }
}

/// Closes with a reset.
pub fn reset(program: TcpStream) {
    // a socket that is gone already needs no reset
    let _ = rustix::net::sockopt::set_socket_linger(&program, Some(AT_ONCE));
    drop(program);
}

async fn copy<R, W>(reader: &mut R, writer: &mut W, counter: &Counter) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; SMALL];
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return writer.shutdown().await;
        }
        writer.write_all(buffer.get(..length).unwrap_or_default()).await?;
        writer.flush().await?;
        counter.add(length.try_into().unwrap_or(u64::MAX));
        if length == buffer.len() && length < GREAT {
            buffer.resize(GREAT, 0);
        }
    }
}

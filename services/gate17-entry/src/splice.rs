//! Carries octets between a program's connection and its stream, both ways, as they are: an end is passed on as an end, a
//! break as a break, and so is the end of this process.

use std::{io, time::Duration};

use bytes::{BufMut as _, BytesMut};
use daemon::status::Counter;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use crate::tunnel::{Incoming, Outgoing, PIECE, Tunnel};

/// What is read at once; grows to [`PIECE`] while it is filled. While nothing comes, no memory is held.
const SMALL: usize = 16 << 10;
/// Less room than that is not read into.
const LEAST: usize = 4 << 10;
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
pub async fn splice(mut program: TcpStream, mut stream: Tunnel, carried: &Carried) {
    breaks_with_us(&program);
    let broken = {
        let (from_program, to_program) = program.split();
        let (from_stream, to_stream) = stream.split();
        let out = outwards(&from_program, to_stream, &carried.sent);
        let back = backwards(from_stream, to_program, &carried.received);
        tokio::try_join!(out, back).is_err()
    };
    if !broken {
        // what was said last may be on its way still
        set_linger(&program, None);
    }
}

/// Closes with a reset.
pub fn reset(program: TcpStream) {
    breaks_with_us(&program);
    drop(program);
}

/// From now on, whatever closes it is a break to the program, also the kernel where this process is killed: it is not to look as
/// if all had been said.
pub fn breaks_with_us(program: &TcpStream) {
    set_linger(program, Some(AT_ONCE));
}

fn set_linger(program: &TcpStream, linger: Option<Duration>) {
    // a socket that is gone already needs no reset
    let _ = rustix::net::sockopt::set_socket_linger(program, linger);
}

async fn outwards(from: &ReadHalf<'_>, mut to: Outgoing<'_>, counter: &Counter) -> io::Result<()> {
    let (mut buffer, mut most) = (BytesMut::new(), SMALL);
    loop {
        from.readable().await?;
        let room = to.room(most).await?;
        // what was sent and has not left yet keeps its memory: it is used up before there is more
        if buffer.capacity() < LEAST {
            buffer.reserve(most);
        }
        match from.try_read_buf(&mut (&mut buffer).limit(room)) {
            Ok(0) => return to.finish(),
            Ok(length) => {
                to.send(buffer.split().freeze())?;
                counter.add(length.try_into().unwrap_or(u64::MAX));
                if length == most {
                    most = PIECE;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                to.give_back();
                (buffer, most) = (BytesMut::new(), SMALL);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn backwards(mut from: Incoming<'_>, mut to: WriteHalf<'_>, counter: &Counter) -> io::Result<()> {
    while let Some(mut octets) = from.next().await? {
        let length = octets.len();
        to.write_all_buf(&mut octets).await?;
        from.taken(length)?;
        counter.add(length.try_into().unwrap_or(u64::MAX));
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests;

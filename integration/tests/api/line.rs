//! A connection to the gateway that stays, for calls by the thousand: HTTP/1.1 by hand.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use integration::World;

use super::stage::Answer;

pub(crate) struct Line {
    out: TcpStream,
    back: BufReader<TcpStream>,
}

impl Line {
    /// By this process, which is root's.
    pub(crate) fn open(world: &World) -> Self {
        let out = world.host.enter(|| TcpStream::connect("127.0.0.1:817").unwrap());
        out.set_nodelay(true).unwrap();
        out.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self {
            back: BufReader::new(out.try_clone().unwrap()),
            out,
        }
    }

    /// None: the gateway ended the connection.
    pub(crate) fn ask(&mut self, verb: &str, path: &str, headers: &str, body: &[u8]) -> Option<Answer> {
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nhost: 127.0.0.1:817\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.out.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut status = String::new();
        self.back.read_line(&mut status).ok()?;
        let code = status.split(' ').nth(1)?.parse().ok()?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.back.read_line(&mut line).ok()?;
            let line = line.trim().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut octets = vec![0; length];
        self.back.read_exact(&mut octets).ok()?;
        Some(Answer {
            code,
            text: String::from_utf8(octets).unwrap(),
        })
    }

    /// A call in JSON.
    pub(crate) fn call(&mut self, path: &str, message: &str) -> Option<Answer> {
        self.ask(
            "POST",
            path,
            "content-type: application/json\r\n",
            message.as_bytes(),
        )
    }
}

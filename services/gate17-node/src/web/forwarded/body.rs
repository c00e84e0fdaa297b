//! The body of a request that goes on to its server: so much of what comes, and no octet of what may come behind it.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::http1::Body;

/// Which end a body did not get on by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client's: it went, or what it says is no body.
    Here,
    /// The server's.
    There,
}

/// Of a line between pieces.
const LINE: u64 = 4 << 10;
/// Behind the last piece.
const TRAILERS: usize = 64;

/// All of it.
///
/// # Errors
/// [`Broken`]
pub(super) async fn pass<R, W>(from: &mut R, to: &mut W, body: Body) -> Result<(), Broken>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match body {
        Body::Length(length) => exactly(from, to, length).await,
        Body::Chunked => pieces(from, to).await,
    }
}

async fn exactly<R, W>(from: &mut R, to: &mut W, mut left: u64) -> Result<(), Broken>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    while left > 0 {
        let octets = from.fill_buf().await.map_err(|_| Broken::Here)?;
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let part = octets.get(..octets.len().min(most)).unwrap_or_default();
        if part.is_empty() {
            return Err(Broken::Here);
        }
        to.write_all(part).await.map_err(|_| Broken::There)?;
        let count = part.len();
        from.consume(count);
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

/// RFC 9112, section 7.1; what a client says besides, on these lines and behind the last, is left out.
async fn pieces<R, W>(from: &mut R, to: &mut W) -> Result<(), Broken>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let size = size(&line(from).await?).ok_or(Broken::Here)?;
        let said = format!("{size:x}\r\n");
        to.write_all(said.as_bytes()).await.map_err(|_| Broken::There)?;
        if size == 0 {
            break;
        }
        exactly(from, to, size).await?;
        if !line(from).await?.is_empty() {
            return Err(Broken::Here);
        }
        to.write_all(b"\r\n").await.map_err(|_| Broken::There)?;
    }
    for _ in 0..TRAILERS {
        if line(from).await?.is_empty() {
            return to.write_all(b"\r\n").await.map_err(|_| Broken::There);
        }
    }
    Err(Broken::Here)
}

/// Without its end.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, Broken> {
    let mut line = Vec::new();
    let read = from.take(LINE).read_until(b'\n', &mut line).await;
    if read.is_err() || line.pop() != Some(b'\n') {
        return Err(Broken::Here);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|octet| *octet == b';').next()?.trim_ascii_end();
    // from_str_radix would take a sign
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(said: &str, body: Body) -> (Result<(), Broken>, String, String) {
        let (mut from, mut to) = (said.as_bytes(), Vec::new());
        let result = pass(&mut from, &mut to, body).await;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (result, text(&to), text(from))
    }

    #[tokio::test]
    async fn a_body_goes_on_and_what_is_behind_it_does_not() {
        let (result, to, left) = passed("bodyGET /", Body::Length(4)).await;
        assert_eq!((result, to.as_str(), left.as_str()), (Ok(()), "body", "GET /"));
        let said = "4 ;x=y\r\nbody\r\n0A\n0123456789\n0\r\nSecret: x\r\n\r\nGET /";
        let (result, to, left) = passed(said, Body::Chunked).await;
        let whole = "4\r\nbody\r\na\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!((result, to.as_str(), left.as_str()), (Ok(()), whole, "GET /"));
    }

    #[tokio::test]
    async fn what_is_no_body_ends_there() {
        for said in [
            "",
            "x\r\n",
            "+1\r\na\r\n0\r\n\r\n",
            "-1\r\n",
            "1\r\nab\r\n",
            "10000000000000000\r\n",
            "0\r\n",
            "1\r\na",
        ] {
            assert_eq!(passed(said, Body::Chunked).await.0, Err(Broken::Here), "{said:?}");
        }
        assert_eq!(passed("bod", Body::Length(4)).await.0, Err(Broken::Here));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(1000));
        assert_eq!(passed(&trailers, Body::Chunked).await.0, Err(Broken::Here));
        assert_eq!(
            passed(&"1".repeat(10_000), Body::Chunked).await.0,
            Err(Broken::Here)
        );
    }
}

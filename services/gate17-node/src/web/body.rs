//! Bodies of requests: short ones that are read, others that are passed over.

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{IDLE, LINGER, PIECE, Talk};
use crate::http1::{Body, LARGEST_BODY};

impl<I> Talk<I>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// So many octets of a body.
    pub(super) async fn part(&mut self, length: u64) -> Option<Bytes> {
        let length = usize::try_from(length).ok()?;
        let whole = async {
            while self.buffer.len() < length {
                self.more().await?;
            }
            Some(())
        };
        timeout(LINGER, whole).await.ok()??;
        Some(self.buffer.split_to(length).freeze())
    }

    /// What nobody asked for.
    pub(super) async fn skip(&mut self, body: Body) -> Option<()> {
        let skipped = async {
            match body {
                Body::Length(length) => self.pass(length).await,
                Body::Chunked => self.pass_chunks().await,
            }
        };
        timeout(IDLE, skipped).await.ok()?
    }

    async fn pass(&mut self, mut left: u64) -> Option<()> {
        while left > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let here = self.buffer.len().min(usize::try_from(left).ok()?);
            self.buffer.advance(here);
            left = left.checked_sub(here as u64)?;
        }
        Some(())
    }

    async fn pass_chunks(&mut self) -> Option<()> {
        let mut all = 0_u64;
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).ok()?;
            all = all
                .checked_add(size)
                .filter(|all| size < LARGEST_BODY && *all <= LARGEST_BODY)?;
            if size == 0 {
                // what follows the last is of no matter either
                while !self.line().await?.is_empty() {}
                return Some(());
            }
            self.pass(size).await?;
            if !self.line().await?.is_empty() {
                return None;
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.buffer.len() > PIECE {
                return None;
            }
            self.more().await?;
        }
    }
}

//! The keys of Initial packets (RFC 9001 §5, RFC 9369 §3.3): no secret, they only keep bystanders from being in the way.

use aes_gcm::{
    Aes128Gcm,
    aead::{AeadInOut, KeyInit},
    aes::{
        Aes128,
        cipher::{Block, BlockCipherEncrypt},
    },
};
use hkdf::Hkdf;
use sha2::Sha256;

use super::header::{Packet, Version};

const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
    0xbb, 0x7f, 0x0a,
];
const SALT_V2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
    0xbd, 0x2e, 0xd9,
];

const TAG: usize = 16;
/// Where the sample for header protection begins, behind the start of the packet number (RFC 9001 §5.4.2).
const SAMPLE_AT: usize = 4;

/// What opens the opener's Initial packets.
pub(super) struct Keys {
    payload: Aes128Gcm,
    nonce: [u8; 12],
    header: Aes128,
}

impl Keys {
    /// `destination`: the connection id that the opener made up for the other end. There are always such keys; `None` is
    /// what the types of the ciphers leave open.
    pub(super) fn of_opener(version: Version, destination: &[u8]) -> Option<Self> {
        let (salt, [key, iv, hp]) = match version {
            Version::One => (SALT_V1, ["quic key", "quic iv", "quic hp"]),
            Version::Two => (SALT_V2, ["quicv2 key", "quicv2 iv", "quicv2 hp"]),
        };
        let initial = Hkdf::<Sha256>::new(Some(&salt), destination);
        let opener = Hkdf::<Sha256>::from_prk(&expand::<32>(&initial, "client in")?).ok()?;
        Some(Self {
            payload: Aes128Gcm::new(&expand::<16>(&opener, key)?.into()),
            nonce: expand(&opener, iv)?,
            header: Aes128::new(&expand::<16>(&opener, hp)?.into()),
        })
    }

    /// The frames of a packet that was sealed with these keys and arrived whole.
    pub(super) fn open(&self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let (header, number, sealed) = self.unmask(packet)?;
        let mut nonce = self.nonce;
        // the number may be cut, but not of a connection's first packets (RFC 9000 §A.3)
        for (octet, number) in nonce.iter_mut().rev().zip(number.to_be_bytes().iter().rev()) {
            *octet ^= number;
        }
        let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut frames = sealed.to_vec();
        self.payload
            .decrypt_inout_detached(
                &nonce.into(),
                &header,
                frames.as_mut_slice().into(),
                &(*tag).into(),
            )
            .ok()?;
        Some(frames)
    }

    /// Header with packet number, both in the clear; the packet number; what follows it.
    fn unmask<'a>(&self, packet: &Packet<'a>) -> Option<(Vec<u8>, u32, &'a [u8])> {
        let sample = packet.sealed.get(SAMPLE_AT..)?.first_chunk::<16>()?;
        let mut mask = Block::<Aes128>::from(*sample);
        self.header.encrypt_block(&mut mask);
        let [mask_of_first, mask_of_number @ ..] = <[u8; 16]>::from(mask);

        let mut header = packet.header.to_vec();
        let first = header.first_mut()?;
        *first ^= mask_of_first & 0x0f;
        let length = usize::from(*first & 3) + 1;
        let (number, sealed) = packet.sealed.split_at_checked(length)?;
        let number = number
            .iter()
            .zip(mask_of_number)
            .map(|(octet, mask)| octet ^ mask);
        header.extend(number.clone());
        let number = number.fold(0, |number, octet| number << 8 | u32::from(octet));
        Some((header, number, sealed))
    }
}

/// `HKDF-Expand-Label` without context (RFC 8446 §7.1).
fn expand<const LENGTH: usize>(secret: &Hkdf<Sha256>, label: &str) -> Option<[u8; LENGTH]> {
    const PREFIX: &str = "tls13 ";
    let length = u16::try_from(LENGTH).ok()?.to_be_bytes();
    let label_length = u8::try_from(PREFIX.len() + label.len()).ok()?;
    let info = [
        &length[..],
        &[label_length],
        PREFIX.as_bytes(),
        label.as_bytes(),
        &[0],
    ];
    let mut key = [0; LENGTH];
    secret.expand_multi_info(&info, &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
impl Keys {
    /// A packet with a packet number of four octets; `header` ends before it and has room for what follows in its length.
    pub(super) fn seal(&self, header: &[u8], number: u32, frames: &[u8]) -> Vec<u8> {
        let clear = [header, &number.to_be_bytes()].concat();
        let mut nonce = self.nonce;
        for (octet, number) in nonce[8..].iter_mut().zip(number.to_be_bytes()) {
            *octet ^= number;
        }
        let mut sealed = frames.to_vec();
        let tag = self
            .payload
            .encrypt_inout_detached(&nonce.into(), &clear, sealed.as_mut_slice().into())
            .unwrap();
        sealed.extend(tag);
        let mut mask = Block::<Aes128>::try_from(&sealed[..16]).unwrap();
        self.header.encrypt_block(&mut mask);
        let mut packet = clear;
        let number_at = header.len();
        packet[0] ^= mask[0] & 0x0f;
        for (octet, mask) in packet[number_at..].iter_mut().zip(&mask[1..]) {
            *octet ^= mask;
        }
        packet.extend(sealed);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// RFC 9001 §A.1, RFC 9369 §A.1.
    #[test]
    fn the_keys_are_those_of_the_standards() {
        for (version, nonce) in [
            (Version::One, "fa044b2f42a3fd3b46fb255c"),
            (Version::Two, "91f73e2351d8fa91660e909f"),
        ] {
            let keys = Keys::of_opener(version, &DESTINATION).unwrap();
            let hex: String = keys.nonce.iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(hex, nonce, "{version:?}");
        }
    }
}

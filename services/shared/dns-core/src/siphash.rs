//! SipHash, the keyed hash of DNS cookies (RFC 9018 §4.4: SipHash-2-4) and, with fewer rounds, of the cache's table: who
//! does not know the key cannot make names that meet in one place.

/// SipHash-c-d of `data` under `key`.
pub(crate) fn siphash<const C: usize, const D: usize>(key: [u64; 2], data: &[u8]) -> u64 {
    let [k0, k1] = key;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        absorb::<C>(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    // the top byte is the length modulo 256
    let length = (data.len() as u64) << 56;
    absorb::<C>(&mut v, u64::from_le_bytes(last) | length);
    let [a, b, c, d] = v;
    v = [a, b, c ^ 0xff, d];
    for _ in 0..D {
        round(&mut v);
    }
    v.iter().fold(0, |sum, word| sum ^ word)
}

/// A key of sixteen bytes as the two words that [`siphash`] takes.
pub(crate) fn key(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(bytes);
    [whole as u64, (whole >> 64) as u64]
}

#[inline]
fn absorb<const C: usize>(v: &mut [u64; 4], word: u64) {
    let [a, b, c, d] = *v;
    *v = [a, b, c, d ^ word];
    for _ in 0..C {
        round(v);
    }
    let [a, b, c, d] = *v;
    *v = [a ^ word, b, c, d];
}

#[inline]
fn round(v: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *v;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *v = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the reference implementation: key 00..0f, messages 00, 00 01, …
    #[test]
    fn the_reference_vectors_come_out() {
        let secret = key(std::array::from_fn(|at| at as u8));
        let data: Vec<u8> = (0..15).collect();
        assert_eq!(siphash::<2, 4>(secret, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash::<2, 4>(secret, &[0]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(siphash::<2, 4>(secret, &data), 0xa129_ca61_49be_45e5);
    }
}

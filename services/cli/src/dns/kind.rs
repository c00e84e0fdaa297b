//! Record types by name (IANA, "Resource Record (RR) TYPEs"; any other as `TYPE123`, RFC 3597 §5) and response codes.

const KINDS: [(u32, &str); 22] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (255, "ANY"),
    (257, "CAA"),
];

/// `AAAA`, or `TYPE123` where it has no name here.
pub(super) fn text(kind: u32) -> String {
    let known = KINDS.iter().find(|(number, _)| *number == kind);
    known.map_or_else(|| format!("TYPE{kind}"), |(_, name)| (*name).to_owned())
}

/// A type by name in any case, as `TYPE123`, or as a number.
///
/// # Errors
/// Where it is none of these.
pub(super) fn parse(text: &str) -> Result<u32, String> {
    let upper = text.to_ascii_uppercase();
    if let Some((number, _)) = KINDS.iter().find(|(_, name)| *name == upper) {
        return Ok(*number);
    }
    let number = upper.strip_prefix("TYPE").unwrap_or(&upper).parse::<u16>();
    match number {
        Ok(number) if number > 0 => Ok(number.into()),
        _ => Err(
            "no such record type: give a name like A, AAAA, HTTPS, or a number from 1 to 65535".to_owned(),
        ),
    }
}

/// Response code (RFC 1035 §4.1.1).
pub(super) fn code(code: u32) -> String {
    let known = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    let name = usize::try_from(code).ok().and_then(|code| known.get(code));
    name.map_or_else(|| format!("RCODE{code}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for number in 1..=u32::from(u16::MAX) {
            assert_eq!(parse(&text(number)), Ok(number));
        }
        assert_eq!(parse("https"), Ok(65));
        assert_eq!(parse("28"), Ok(28));
        for wrong in ["", "0", "65536", "TYPE", "AAAAA", "-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn codes_have_names() {
        assert_eq!([code(0), code(3), code(23)], ["NOERROR", "NXDOMAIN", "RCODE23"]);
    }
}

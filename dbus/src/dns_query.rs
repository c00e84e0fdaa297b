//! What `QueriesAnswered` carries.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::{OwnedVariant, zvariant::Type};

/// A query that the DNS server answered. Numbers of origins, verdicts and reasons are those of the gRPC contracts; 0 is
/// "unknown".
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct DnsQuery {
    /// Grows while the service runs.
    pub id: u64,
    /// Microseconds since 1970.
    pub time: u64,
    /// 0 where the process is not known.
    pub pid: u32,
    /// 4294967295 where the user is not known.
    pub uid: u32,
    /// Path; empty where not known.
    pub executable: String,
    /// Id; empty for the global defaults.
    pub profile: String,
    /// Lower case, without the closing dot.
    pub name: String,
    /// Record type (1 = A, 28 = AAAA, 65 = HTTPS).
    pub kind: u16,
    /// Response code (0 = answered, 3 = NXDOMAIN).
    pub code: u16,
    /// 4 or 16 octets each; at most 16 of them.
    pub addresses: Vec<Vec<u8>>,
    /// 1 refused, 2 cache, 3 stale cache, 4 upstream, 5 special name, 6 no upstream answered.
    pub origin: u32,
    /// Empty where none was asked.
    pub upstream: String,
    /// 1 allow, 2 block, 3 drop, 4 tunnel.
    pub verdict: u32,
    /// As a number.
    pub why: u32,
    /// As a stable word.
    pub why_text: String,
    /// `file#rule` or `file#setting`.
    pub rule: String,
    /// The list whose name it is; empty where none decided.
    pub list: String,
    /// In microseconds.
    pub took: u64,
    /// `tcp` (b): it came by TCP. `redirected` (b): it was meant for another server. Neither stands there where it is not so.
    pub extra: HashMap<String, OwnedVariant>,
}

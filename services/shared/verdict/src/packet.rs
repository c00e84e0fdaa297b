//! Packets as NFQUEUE delivers them: bytes in, a flow out. Total: any bytes give a packet or a reason.

//! From options to rules. The order is the specification's; what is added says why.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::{
    Chain, ChainName, Family, MarkTest, Match, RejectWith, Rule, Table, TableName, Target, Transport,
    queue_number,
};
use crate::{Mark, mark::MarkScheme, packet::Hook};

/// What the owner can choose about the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which bits of the mark are ours.
    pub scheme: MarkScheme,
    /// How a blocked TCP connection fails.
    pub reject_tcp_with: RejectTcpWith,
    /// Allowed connections keep the marks that others put on their packets (policy routing, VPNs).
    pub keep_foreign_marks: bool,
    /// Where queries that strayed past the local DNS server go.
    pub dns: Local,
    /// Where connections for Gate17 go.
    pub gate17: Local,
    /// IPv6 that has no way out has a route to this host itself: what is tunnelled comes in, all else is refused.
    pub ipv6_route: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scheme: MarkScheme::default(),
            reject_tcp_with: RejectTcpWith::default(),
            keep_foreign_marks: true,
            dns: Local {
                v4: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53),
                v6: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 53, 0, 0),
            },
            gate17: Local {
                v4: SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 17), 717),
                v6: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 717, 0, 0),
            },
            ipv6_route: false,
        }
    }
}

/// A local service's address in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// For IPv4.
    pub v4: SocketAddrV4,
    /// For IPv6.
    pub v6: SocketAddrV6,
}

impl Local {
    const fn of(self, family: Family) -> SocketAddr {
        match family {
            Family::V4 => SocketAddr::V4(self.v4),
            Family::V6 => SocketAddr::V6(self.v6),
        }
    }
}

/// How a blocked TCP connection fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectTcpWith {
    /// As everything else, and as listed: an ICMP error. One that comes while `connect()` still holds the socket is not
    /// heard for a second, and an open connection does not hear it at all.
    Icmp,
    /// A reset, which is always heard at once.
    #[default]
    Reset,
}

/// All rules of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    v4: Vec<Table>,
    v6: Vec<Table>,
}

impl RuleSet {
    /// The specification's listing under these options, made whole.
    pub fn new(options: &Options) -> Self {
        let tables = |family| {
            let builder = Builder { options, family };
            vec![builder.nat(), builder.filter(), builder.mangle()]
        };
        Self {
            v4: tables(Family::V4),
            v6: tables(Family::V6),
        }
    }

    /// The tables of one family, in the order in which they are loaded.
    pub fn tables(&self, family: Family) -> &[Table] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

const WHY_RELATED: &str = "the error that REJECT sends passes OUTPUT with the blocked connection's entry; \
    dropped there, the blocked program would hang instead of failing at once";
const WHY_DISCOVERY: &str = "neighbour and router discovery is not tracked: it would be asked for ever, and \
    without it IPv6 ends; a hop limit of 255 proves that it comes from this link";
const WHY_FOREIGN: &str = "an allowed connection's packets keep the marks of others (policy routing, VPNs)";
const WHY_RESET: &str = "TCP hears a reset at once; it may not hear an ICMP error for a second while it connects, nor at all \
    once it is connected";
const WHY_DNS: &str = "else any program could leave by this mark, whatever its policy";
const WHY_REST: &str = "a mark that has no rule is no permission";
const WHY_GUARD: &str = "a socket bound to a device ignores the redirect's route, and protocols without one have none: \
    such a packet must not leave in the clear";
const WHY_NO_ROUTE: &str = "the route of the last resort is for what was redirected into the tunnel; everybody else is to hear at once that there is \
    none";

struct Builder<'a> {
    options: &'a Options,
    family: Family,
}

impl Builder<'_> {
    fn nat(&self) -> Table {
        use Transport::{Tcp, Udp};
        let dns = |transport| {
            let port = Match::DestinationPort(transport, 53);
            let to = Target::Redirect(self.options.dns.of(self.family));
            Rule::new(vec![Match::Protocol(transport), self.marked(Mark::DNS), port], to)
        };
        let gate17 = |transport| {
            let to = Target::Redirect(self.options.gate17.of(self.family));
            Rule::new(vec![Match::Protocol(transport), self.marked(Mark::TUNNEL)], to)
        };
        let rules = vec![
            dns(Udp),
            dns(Tcp).because("names are also asked for over TCP"),
            gate17(Tcp),
            gate17(Udp),
        ];
        Table {
            name: TableName::Nat,
            chains: vec![Chain {
                name: ChainName::Output,
                rules,
            }],
        }
    }

    fn filter(&self) -> Table {
        let jump = |name| Chain {
            name,
            rules: vec![Rule::new(vec![], Target::Jump(ChainName::C17))],
        };
        let fates = Chain {
            name: ChainName::C17,
            rules: self.fates(),
        };
        Table {
            name: TableName::Filter,
            chains: vec![fates, jump(ChainName::Output), jump(ChainName::Input)],
        }
    }

    fn mangle(&self) -> Table {
        let ask = |name, hook| Chain {
            name,
            rules: self.ask(hook),
        };
        let jump = |name, to| Chain {
            name,
            rules: vec![Rule::new(vec![], Target::Jump(to))],
        };
        let guard =
            |mark| Rule::new(vec![Match::NotOutLoopback, self.marked(mark)], Target::Drop).because(WHY_GUARD);
        Table {
            name: TableName::Mangle,
            chains: vec![
                ask(ChainName::C170, Hook::Output),
                ask(ChainName::C171, Hook::Input),
                Chain {
                    name: ChainName::Postrouting,
                    rules: vec![guard(Mark::TUNNEL), guard(Mark::DNS)],
                },
                jump(ChainName::Output, ChainName::C170),
                jump(ChainName::Input, ChainName::C171),
            ],
        }
    }

    /// C170 and C171: the connection's mark, or a question.
    fn ask(&self, hook: Hook) -> Vec<Rule> {
        let mut rules = self.unasked();
        if self.options.keep_foreign_marks {
            rules.push(self.keep_foreign());
        }
        rules.push(Rule::new(vec![], Target::RestoreMark(self.options.scheme.mask())));
        let queue = Target::Queue(queue_number(hook, self.family));
        rules.push(Rule::new(vec![self.marked(Mark::NONE)], queue));
        rules
    }

    /// C17: a mark becomes a fate. Marks for one packet stand above the rule that saves, and so are never saved.
    fn fates(&self) -> Vec<Rule> {
        let on = |mark, target| Rule::new(vec![self.marked(mark)], target);
        let whole = self.options.scheme.is_whole();
        let foreign = self.options.keep_foreign_marks.then(|| self.accept_foreign());
        let mut rules = self.no_route();
        rules.extend(self.unasked());
        rules.extend(foreign.clone().filter(|_| !whole));
        rules.push(on(Mark::NONE, Target::Drop));
        rules.push(on(Mark::ACCEPT_ONCE, Target::Accept));
        rules.extend(self.reject(Mark::BLOCK_ONCE));
        rules.push(on(Mark::DROP_ONCE, Target::Drop));
        rules.extend(foreign.filter(|_| whole));
        rules.push(Rule::new(vec![], Target::SaveMark(self.options.scheme.mask())));
        rules.push(on(Mark::ACCEPT, Target::Accept));
        rules.extend(self.reject(Mark::BLOCK));
        rules.push(on(Mark::DROP, Target::Drop));
        rules.push(on(Mark::TUNNEL, Target::Accept));
        rules.push(on(Mark::DNS, Target::Accept).because(WHY_DNS));
        rules.push(Rule::new(vec![], Target::Drop).because(WHY_REST));
        rules
    }

    /// Of what is for another host and goes to this one, since there is no other route. Packets that are to go without a word
    /// do so: among them the second SYN of a connection whose first one waits for the tunnel.
    fn no_route(&self) -> Vec<Rule> {
        if !self.options.ipv6_route || self.family != Family::V6 {
            return Vec::new();
        }
        let stray = |transport: Option<Transport>, with| {
            let mut matches: Vec<_> = transport.map(Match::Protocol).into_iter().collect();
            matches.extend([Match::OutLoopback, Match::NotLocal]);
            let told = [Mark::NONE, Mark::DROP_ONCE, Mark::DROP]
                .map(|mark| Match::PacketMark(MarkTest::is_not(mark, self.options.scheme)));
            matches.extend(told);
            Rule::new(matches, Target::Reject(with)).because(WHY_NO_ROUTE)
        };
        vec![
            stray(Some(Transport::Tcp), RejectWith::TcpReset),
            // that there is no route would be told to no datagram socket: it is an error that may pass
            stray(None, RejectWith::AdminProhibited),
        ]
    }

    /// What passes without being asked for, in all three chains.
    fn unasked(&self) -> Vec<Rule> {
        let icmp = match self.family {
            Family::V4 => Transport::Icmp,
            Family::V6 => Transport::Icmp6,
        };
        let mut rules = vec![
            Rule::new(vec![Match::Protocol(icmp), Match::Related], Target::Accept).because(WHY_RELATED),
            Rule::new(
                vec![Match::Protocol(Transport::Tcp), Match::TcpReset, Match::Related],
                Target::Accept,
            )
            .because(WHY_RELATED),
        ];
        if self.family == Family::V6 {
            rules.extend((133..=137).map(|kind| {
                let matches = vec![
                    Match::Protocol(Transport::Icmp6),
                    Match::Icmp6Type(kind),
                    Match::HopLimit(255),
                ];
                Rule::new(matches, Target::Accept).because(WHY_DISCOVERY)
            }));
        }
        rules
    }

    /// Before the mark is restored: an allowed connection's packet that carries bits of others goes on with them alone.
    fn keep_foreign(&self) -> Rule {
        let mut matches = if self.options.scheme.is_whole() {
            vec![Match::PacketMark(MarkTest::is_not(
                Mark::NONE,
                self.options.scheme,
            ))]
        } else {
            self.only_foreign()
        };
        matches.push(self.connection(Mark::ACCEPT));
        Rule::new(matches, Target::Return).because(WHY_FOREIGN)
    }

    /// The same packets in C17. A packet that carries a later decision of its own is judged by that one: under the
    /// whole mark it therefore stands behind the marks for one packet and names the others; under a mask such a packet
    /// has none of our bits, and has to stand before the rule that drops those.
    fn accept_foreign(&self) -> Rule {
        let mut matches = if self.options.scheme.is_whole() {
            [Mark::BLOCK, Mark::DROP, Mark::TUNNEL, Mark::DNS]
                .map(|mark| Match::PacketMark(MarkTest::is_not(mark, self.options.scheme)))
                .to_vec()
        } else {
            self.only_foreign()
        };
        matches.push(self.connection(Mark::ACCEPT));
        Rule::new(matches, Target::Accept).because(WHY_FOREIGN)
    }

    /// None of our bits, some of the others; under a mask that leaves others some.
    fn only_foreign(&self) -> Vec<Match> {
        let others = MarkTest {
            value: 0,
            mask: !self.options.scheme.mask(),
            equal: false,
        };
        vec![self.marked(Mark::NONE), Match::PacketMark(others)]
    }

    fn reject(&self, mark: Mark) -> Vec<Rule> {
        let tcp = Rule::new(
            vec![Match::Protocol(Transport::Tcp), self.marked(mark)],
            Target::Reject(RejectWith::TcpReset),
        )
        .because(WHY_RESET);
        let with = match self.family {
            Family::V4 => RejectWith::HostProhibited,
            Family::V6 => RejectWith::AdminProhibited,
        };
        let all = Rule::new(vec![self.marked(mark)], Target::Reject(with));
        match self.options.reject_tcp_with {
            RejectTcpWith::Icmp => vec![all],
            RejectTcpWith::Reset => vec![tcp, all],
        }
    }

    const fn marked(&self, mark: Mark) -> Match {
        Match::PacketMark(MarkTest::is(mark, self.options.scheme))
    }

    const fn connection(&self, mark: Mark) -> Match {
        Match::ConnectionMark(MarkTest::is(mark, self.options.scheme))
    }
}

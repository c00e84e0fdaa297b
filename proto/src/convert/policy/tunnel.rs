//! `[tunnel]`.

use verdict::policy::tunnel::{ExitChoice, Hops, Isolation, Tunnel, TunnelOptions, is_node, is_region};

use crate::{
    convert::{Error, optional_word, words},
    policy::v1,
};

words!(v1::Isolation, Isolation, [App, Site, None]);

impl From<&Tunnel> for v1::Tunnel {
    fn from(tunnel: &Tunnel) -> Self {
        Self {
            hops: tunnel.hops.map_or(0, |hops| hops.get().into()),
            exit: tunnel.exit.as_ref().map(|choice| v1::Exit {
                choice: Some(choice.into()),
            }),
            isolate: tunnel
                .isolate
                .map_or(v1::Isolation::Unspecified, Into::into)
                .into(),
        }
    }
}

impl TryFrom<v1::Tunnel> for Tunnel {
    type Error = Error;

    fn try_from(wire: v1::Tunnel) -> Result<Self, Error> {
        let hops = match wire.hops {
            0 => None,
            hops => Some(Hops::new(hops).ok_or_else(|| Error::invalid("hops", hops, "from 1 to 5"))?),
        };
        let exit = wire.exit.map(|exit| match exit.choice {
            Some(choice) => choice.try_into(),
            None => Err(Error::missing("exit.choice")),
        });
        Ok(Self {
            hops,
            exit: exit.transpose()?,
            isolate: optional_word::<v1::Isolation, _>("isolate", wire.isolate)?,
        })
    }
}

/// With every field set.
impl From<&TunnelOptions> for v1::Tunnel {
    fn from(TunnelOptions { hops, exit, isolate }: &TunnelOptions) -> Self {
        (&Tunnel {
            hops: Some(*hops),
            exit: Some(exit.clone()),
            isolate: Some(*isolate),
        })
            .into()
    }
}

/// Nothing is filled in: what is missing could be fewer nodes than the owner wants.
impl TryFrom<v1::Tunnel> for TunnelOptions {
    type Error = Error;

    fn try_from(wire: v1::Tunnel) -> Result<Self, Error> {
        let Tunnel { hops, exit, isolate } = wire.try_into()?;
        Ok(Self {
            hops: hops.ok_or_else(|| Error::missing("hops"))?,
            exit: exit.ok_or_else(|| Error::missing("exit"))?,
            isolate: isolate.ok_or_else(|| Error::missing("isolate"))?,
        })
    }
}

impl From<&ExitChoice> for v1::exit::Choice {
    fn from(choice: &ExitChoice) -> Self {
        match choice {
            ExitChoice::Any => Self::Any(v1::exit::Any {}),
            ExitChoice::Near => Self::Near(v1::exit::Near {}),
            ExitChoice::Among { regions, nodes } => Self::Among(v1::exit::Among {
                regions: regions.clone(),
                nodes: nodes.clone(),
            }),
        }
    }
}

impl TryFrom<v1::exit::Choice> for ExitChoice {
    type Error = Error;

    fn try_from(wire: v1::exit::Choice) -> Result<Self, Error> {
        let v1::exit::Among { regions, nodes } = match wire {
            v1::exit::Choice::Any(_) => return Ok(Self::Any),
            v1::exit::Choice::Near(_) => return Ok(Self::Near),
            v1::exit::Choice::Among(among) => among,
        };
        if let Some(region) = regions.iter().find(|region| !is_region(region)) {
            return Err(Error::invalid(
                "exit.among.regions",
                region,
                "two lower-case letters",
            ));
        }
        if let Some(node) = nodes.iter().find(|node| !is_node(node)) {
            return Err(Error::invalid("exit.among.nodes", node, "a node's id"));
        }
        if regions.is_empty() && nodes.is_empty() {
            return Err(Error::missing("exit.among"));
        }
        Ok(Self::Among { regions, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_connection_travels_is_said_in_full_or_not_taken() {
        let options = TunnelOptions {
            hops: Hops::SHIPPED,
            exit: ExitChoice::Near,
            isolate: Isolation::Site,
        };
        let wire = v1::Tunnel::from(&options);
        assert_eq!(TunnelOptions::try_from(wire.clone()).unwrap(), options);
        for broken in [
            v1::Tunnel {
                hops: 0,
                ..wire.clone()
            },
            v1::Tunnel {
                hops: 6,
                ..wire.clone()
            },
            v1::Tunnel {
                exit: None,
                ..wire.clone()
            },
            v1::Tunnel { isolate: 0, ..wire },
        ] {
            assert!(TunnelOptions::try_from(broken.clone()).is_err(), "{broken:?}");
        }
    }
}

//! The only writer of what the owner wants: profiles, rules, snapshots

//! Sees packets in NFQUEUE, decides them from its copy of the policy, marks them

//! portmaster, the command line

//! Where tunnelled connections enter.

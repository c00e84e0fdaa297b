//! A relay of Gate17.

//! Answers which process a flow belongs to

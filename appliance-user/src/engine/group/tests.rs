//! Groups from inside.

//! A store that is a SQLite file.

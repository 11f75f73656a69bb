//! The seed's C structures. Placeholders: the layouts come with the rest of the ABI.

/// `SUPDRVLDRIMAGE`.
pub struct ImageView;

/// `SUPDRVOBJ`.
pub struct ObjectView;

//! Random programs and what they mean: a [`script::Script`] is written by [`author`], recorded on a tape, and
//! evaluated by [`reference`] over [`number`]s that know their derivatives and the error that f32 may make of
//! them.
#![allow(dead_code, reason = "a test uses a part of it")]

pub(crate) mod author;
mod functions;
mod layout;
pub(crate) mod number;
mod pointwise;
pub(crate) mod reference;
pub(crate) mod script;
mod shrink;

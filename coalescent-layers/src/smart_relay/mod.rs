//! Relaying in meshes with circles, each frame once.

mod seen;

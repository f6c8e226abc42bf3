//! Tests of the wires.

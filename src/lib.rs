//! An Express-like framework for peer-to-peer applications, on tower.

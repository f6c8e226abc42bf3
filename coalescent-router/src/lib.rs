//! Handlers by message type, with extractors: the router of coalescent.

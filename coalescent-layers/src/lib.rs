//! Tattletale, SmartRelay and Courier: the layers of coalescent.

"""From a program to a verified one on a device: cross-compiled runner, bundle, transport, versioned installation."""

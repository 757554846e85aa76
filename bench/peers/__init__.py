"""Other runtimes to be measured beside: one file a peer, each exports ``load(path, threads) -> callable(feed) -> outputs``."""

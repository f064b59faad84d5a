"""Graph HyperNetworks for Neural Architecture Search (Zhang, Ren, Urtasun, ICLR 2019)."""

"""Graph HyperNetworks for Neural Architecture Search (Zhang, Ren, Urtasun, ICLR 2019)."""

__version__ = "0.1.0"

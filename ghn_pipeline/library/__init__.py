"""The public interface, which `ghn_pipeline` itself offers."""

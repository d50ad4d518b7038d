"""What every process has: settings, logs, lifecycle, reports, TLS, limits of the operating system."""

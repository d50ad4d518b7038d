"""Infrastructure that every process uses: settings, logs, lifecycle, TLS, limits of the operating system."""

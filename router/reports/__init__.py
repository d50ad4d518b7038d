"""What processes report about themselves: health and metrics, in memory."""

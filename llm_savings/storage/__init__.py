"""What everything that is kept in a file or a database shares: opening, waiting, forks, addresses."""

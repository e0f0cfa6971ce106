"""What stages do with one fold's network: data, masks, training, recovery, measures."""

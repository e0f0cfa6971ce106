"""What each operation of torch does to the channels of its inputs."""

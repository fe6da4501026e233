"""Does every axis deserve belief? Faults of known kind and size are planted in drawn pictures and
must be found."""

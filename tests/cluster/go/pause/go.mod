module bearerd.dev/tests/pause

go 1.24

module example.com/app

go 1.21

require golang.org/x/net v0.30.0

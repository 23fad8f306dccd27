module hapax/peers/go

go 1.23

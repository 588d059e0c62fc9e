package relay

var Downgrade = downgrade

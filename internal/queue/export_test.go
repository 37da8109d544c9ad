package queue

// NewIDAt makes an id of a moment.
var NewIDAt = newID
